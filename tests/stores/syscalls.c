/* Preloaded into a program: writes down, in order, its writes that carry a marker, what else it writes or sends, and its
   syncs.

   Each line of the file named by SYSCALLS_LOG: "write <fd> <marker>", "send <fd> <bytes, a dot for each that cannot be
   printed>", "sync-begin <fd>", "sync-end <fd> <result>". A marker is "<<" and whatever follows up to ">>". All but
   "sync-end" stand before their call is made. For where there is no strace. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SENT_BYTES_MAX 16384

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static void append(const char *line, size_t length) {
    pthread_mutex_lock(&order);
    static int log_fd = -1;
    if (log_fd < 0) {
        const char *path = getenv("SYSCALLS_LOG");
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    syscall(SYS_write, log_fd, line, length);
    pthread_mutex_unlock(&order);
}

static void note(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    append(line, (size_t)length);
}

static void note_sent(int fd, const struct iovec *parts, size_t count) {
    char line[SENT_BYTES_MAX + 64];
    size_t length = (size_t)snprintf(line, sizeof line, "send %d ", fd);
    for (size_t part = 0; part < count; part++) {
        const unsigned char *data = parts[part].iov_base;
        for (size_t i = 0; i < parts[part].iov_len && length < SENT_BYTES_MAX; i++)
            line[length++] = data[i] > ' ' && data[i] < 127 ? (char)data[i] : '.';
    }
    line[length++] = '\n';
    append(line, length);
}

static int note_markers(int fd, const char *data, size_t size) {
    int found = 0;
    const char *end = data + size;
    while (data < end) {
        const char *from = memmem(data, (size_t)(end - data), "<<", 2);
        if (!from) return found;
        const char *to = memmem(from, (size_t)(end - from), ">>", 2);
        if (!to) return found;
        found = 1;
        if (to - from < 100) note("write %d %.*s\n", fd, (int)(to - from - 2), from + 2);
        data = from + 2;
    }
    return found;
}

/* Some write to their sockets. */
ssize_t write(int fd, const void *data, size_t size) {
    if (!note_markers(fd, data, size)) {
        struct iovec part = {(void *)data, size};
        note_sent(fd, &part, 1);
    }
    return syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    note_markers(fd, data, size);
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    note_markers(fd, data, size);
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

static int noted_sync(int fd, long number) {
    note("sync-begin %d\n", fd);
    int result = (int)syscall(number, fd);
    note("sync-end %d %d\n", fd, result);
    return result;
}

int fsync(int fd) { return noted_sync(fd, SYS_fsync); }

int fdatasync(int fd) { return noted_sync(fd, SYS_fdatasync); }

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    note_sent(fd, message->msg_iov, message->msg_iovlen);
    return syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size) {
    struct iovec whole = {(void *)data, size};
    note_sent(fd, &whole, 1);
    return syscall(SYS_sendto, fd, data, size, flags, to, to_size);
}

ssize_t send(int fd, const void *data, size_t size, int flags) { return sendto(fd, data, size, flags, NULL, 0); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    note_sent(fd, parts, (size_t)count);
    return syscall(SYS_writev, fd, parts, count);
}
