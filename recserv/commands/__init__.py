"""The subcommands of `recserv`, one module each; see `recserv.cli` for what a module has to offer."""
