from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recserv.errors import UsageError
from recserv.stores.redis_url import Address, Mode, RedisTarget, parse_target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://h", RedisTarget(mode=Mode.SINGLE, addresses=(Address("h", 6379),))),
        (
            "rediss://:p%40ss@h:7000/3?ca_certs=/ca.pem",
            RedisTarget(
                mode=Mode.SINGLE,
                addresses=(Address("h", 7000),),
                password="p@ss",
                db=3,
                tls=True,
                ca_certs="/ca.pem",
            ),
        ),
        ("redis://[::1]:7000", RedisTarget(mode=Mode.SINGLE, addresses=(Address("::1", 7000),))),
        ("redis://[::1]", RedisTarget(mode=Mode.SINGLE, addresses=(Address("::1", 6379),))),
        (
            "redis+sentinel://me:secret@a:1,b/shop/2?sentinel_user=s&sentinel_password=t",
            RedisTarget(
                mode=Mode.SENTINEL,
                addresses=(Address("a", 1), Address("b", 26379)),
                service="shop",
                db=2,
                username="me",
                password="secret",
                sentinel_user="s",
                sentinel_password="t",
            ),
        ),
        ("redis+cluster://a,b:2", RedisTarget(mode=Mode.CLUSTER, addresses=(Address("a", 6379), Address("b", 2)))),
    ],
)
def test_every_form_of_redis_url_gives_its_target(url: str, target: RedisTarget) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis://",
        "http://h",
        "redis+ring://h",
        "redis://:hunter2@a,b",
        "redis://:hunter2@h:port",
        "redis://:hunter2@h:0",
        "redis://:hunter2@h:70000",
        "redis://:hunter2@h/x",
        "redis://:hunter2@h/1/2",
        "redis://:hunter2@h?hunter2=1",
        "redis+sentinel://:hunter2@a,b",
        "redis+cluster://:hunter2@a/1",
        "redis+cluster://a,,b",
    ],
)
def test_what_is_not_understood_is_a_mistake_that_names_no_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(url)
    assert "hunter2" not in str(caught.value).replace("unknown parameters in the URL: hunter2", "")


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_mistake(text: str) -> None:
    for scheme in ("redis://", "redis+sentinel://", "rediss+cluster://", ""):
        try:
            target = parse_target(scheme + text)
        except UsageError:
            continue
        assert target.addresses


def test_a_target_in_a_log_line_has_no_password() -> None:
    assert str(parse_target("rediss+cluster://u:hunter2@a,b:2")) == "rediss+cluster://a:6379,b:2"
