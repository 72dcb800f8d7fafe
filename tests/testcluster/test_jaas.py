"""Login configurations as Java reads them, and mistakes in them, which show no password."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.jaas import users_of

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"

EVERYTHING = f"""
// Who may come in.
Client {{ com.sun.security.auth.module.Krb5LoginModule optional useKeyTab=true; }};
/* Two modules
   for "one" section */
Server {{
    {MODULE} required
        user_super="adminsecret" user_bob = bobsecret
        debug=true;
    {MODULE} OPTIONAL
        "user_with space"="a\\"b\\\\c\\td" user_cyr="пароль" user_empty="" // not a; real }} end
        user_slash="a//b/*c*/";
}} ;
Other {{ }};
"""


def test_everything() -> None:
    assert users_of(EVERYTHING, "f") == {
        "super": "adminsecret",
        "bob": "bobsecret",
        "with space": 'a"b\\c\td',
        "cyr": "пароль",
        "empty": "",
        "slash": "a//b/*c*/",
    }


def test_another_section() -> None:
    text = f'Mine {{ {MODULE} required user_a="b"; }};'
    assert users_of(text, "f", "Mine") == {"a": "b"}
    with pytest.raises(ConfigurationError, match="f: no section Server; there is Mine"):
        users_of(text, "f")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "f: no section Server; there is none"),
        ("Server {};", "f: section Server has no user_NAME option"),
        (f"Server {{ {MODULE} required debug=true user_=secret; }};", "f: section Server has no user_NAME option"),
        ("Server {\n a.b.Krb5LoginModule required useKeyTab=true; };", "f:2: a.b.Krb5LoginModule is not offered here"),
        (f"Server {{\n {MODULE} needed user_a=secret; }};", "f:2: one of required, requisite"),
        (f"Server {{ {MODULE} required\n\nuser_a secret; }};", "f:3: '=' is expected here"),
        (f"Server {{ {MODULE} required user_a=; }};", "f:1: a value is expected here, not ';'"),
        (f"Server {{ {MODULE} required user_a=secret }};", "f:1: an option, or ';' is expected here, not '}'"),
        (f"Server {{ {MODULE} required user_a=secret;", "f:1: the text ends within a section"),
        (f"Server {{ {MODULE} required user_a=secret; }}", "f:1: the text ends within a section"),
        (f'Server {{ {MODULE} required\nuser_a="secret\n;}};', "f:2: a quoted value that does not end"),
        (f"Server {{ {MODULE} required user_a=secret user_a=secret; }};", "f:1: user_a stands twice"),
        ("Server { };\nServer { };", "f:2: section Server stands twice"),
        ("{", "f:1: the name of a section is expected here, not '{'"),
        ("Server { / };", "f:1: a character out of place"),
        (f'Server {{ {MODULE} required user_a="secret${{x}}"; }};', r"f:1: \$\{...\} stands for a property"),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(text: str, mistake: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{mistake}") as caught:
        users_of(text, "f")
    assert "secret" not in str(caught.value)


@given(st.text(alphabet='{}=;"\\/* \nab', max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    # No text is a whole section with a user, so that each is refused in words.
    with pytest.raises(ConfigurationError, match=r"^f:"):
        users_of(text, "f")


_names = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@given(st.dictionaries(_names.filter(lambda name: "${" not in name), _names.filter(lambda word: "${" not in word)))
def test_what_is_quoted_is_read_as_it_is(users: dict[str, str]) -> None:
    def quoted(word: str) -> str:
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'

    options = " ".join(f"{quoted('user_' + name)}={quoted(word)}" for name, word in users.items())
    text = f"Server {{ {MODULE} required user_last=x {options if 'last' not in users else ''}; }};"
    assert users_of(text, "f") == {"last": "x", **(users if "last" not in users else {})}
