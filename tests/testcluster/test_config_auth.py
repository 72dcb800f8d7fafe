"""The keys of authentication: passwords from a login file and from the configuration, and what must be proved."""

from __future__ import annotations

from pathlib import Path

import pytest

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.config import ServerConfig, build_config, load_config
from terzetto.testcluster.config_auth import AuthReading, AuthSettings
from terzetto.testcluster.config_syntax import HIDDEN, Setting

MINIMAL = "dataDir=/var/lib/zookeeper\nclientPort=2181\n"
MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule"
PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
LOGIN = f'Server {{ {MODULE} required user_super="s3cret-super" user_bob="s3cret-bob"; }};\n'


def load(folder: Path, text: str, name: str = "zoo.cfg") -> ServerConfig:
    (folder / name).write_text(text)
    return load_config(folder / name)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, MINIMAL + text)
    assert "s3cret" not in str(caught.value)
    return str(caught.value).replace(str(folder), "").splitlines()


def login_file(folder: Path, text: str = LOGIN) -> str:
    (folder / "jaas.conf").write_text(text, encoding="utf-8")
    return f"java.security.auth.login.config={folder}/jaas.conf\n"


def test_without_keys_nobody_has_a_password(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).auth == AuthSettings()


def test_passwords_from_a_login_file(tmp_path: Path) -> None:
    auth = load(tmp_path, MINIMAL + login_file(tmp_path) + f"authProvider.1={PROVIDER}\n").auth
    assert auth.sasl_users == {"super": "s3cret-super", "bob": "s3cret-bob"}
    assert auth.sasl_acls


def test_another_section_of_a_login_file(tmp_path: Path) -> None:
    text = login_file(tmp_path, LOGIN.replace("Server", "Mine") + 'Server { a.b.Krb5LoginModule required x="y"; };')
    assert "bob" in load(tmp_path, MINIMAL + text + "sasl.serverconfig=Mine\n").auth.sasl_users


def test_passwords_from_the_configuration(tmp_path: Path) -> None:
    flat = load(tmp_path, MINIMAL + "saslUser.bob=s3cret\nsaslUser.with.dots=s3cret2\nsaslUser.cyr=\\u043f\n")
    assert flat.auth.sasl_users == {"bob": "s3cret", "with.dots": "s3cret2", "cyr": "п"}
    nested = load(
        tmp_path,
        "dataDir: /var/lib/zookeeper\nclientPort: 2181\nsaslUser: {bob: s3cret, with.dots: s3cret2, cyr: п}\n",
        "zoo.yaml",
    )
    assert nested.auth == flat.auth


def test_both_sources_together(tmp_path: Path) -> None:
    text = login_file(tmp_path)
    assert set(load(tmp_path, MINIMAL + text + "saslUser.eve=x\n").auth.sasl_users) == {"super", "bob", "eve"}
    assert mistakes(tmp_path, text + "saslUser.bob=s3cret\n") == ["/zoo.cfg:4: saslUser.bob is in /jaas.conf too"]


def test_supers_password_may_stand_apart(tmp_path: Path) -> None:
    key = "SASLAuthenticationProvider.superPassword=s3cret-other\n"
    assert load(tmp_path, MINIMAL + login_file(tmp_path) + key).auth.sasl_users["super"] == "s3cret-other"
    config = load(tmp_path, MINIMAL + "saslUser.bob=x\n" + key)
    assert config.auth.sasl_users == {"bob": "x"}
    assert [notice.partition(": ")[2] for notice in config.notices] == [
        "SASLAuthenticationProvider.superPassword has no effect: there is no user super"
    ]


def test_super_users_and_the_rest(tmp_path: Path) -> None:
    auth = load(
        tmp_path,
        MINIMAL + "superUser=ann\nsuperUser.2=ben\nletAnySaslUserDoX=anyone\nallowSaslFailedClients=true\n"
        "DigestAuthenticationProvider.enabled=false\nfips-mode=false\nkerberos.removeHostFromPrincipal=true\n",
    ).auth
    assert auth.sasl_super == ("ann", "ben")
    assert (auth.sasl_anyone, auth.sasl_failed_allowed, auth.digest_offered) == ("anyone", True, False)
    assert auth.required_schemes == ()


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("sessionRequireClientSASLAuth=true\n", ("sasl",)),
        ("enforce.auth.enabled=true\nenforce.auth.schemes=sasl, digest\n", ("sasl", "digest")),
        ("enforce.auth.enabled=false\nenforce.auth.schemes=digest\n", ()),
        ("enforce.auth.schemes=digest\n", ()),
        # The older key counts for more, as in ZooKeeper.
        ("sessionRequireClientSASLAuth=true\nenforce.auth.enabled=true\nenforce.auth.schemes=digest\n", ("sasl",)),
    ],
)
def test_what_must_be_proved(tmp_path: Path, text: str, required: tuple[str, ...]) -> None:
    text = MINIMAL + f"authProvider.1={PROVIDER}\nsaslUser.bob=x\n" + text
    assert load(tmp_path, text).auth.required_schemes == required


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("enforce.auth.enabled=true\n", "enforce.auth.enabled needs enforce.auth.schemes"),
        (
            "enforce.auth.enabled=true\nenforce.auth.schemes=x509\n",
            "enforce.auth.schemes asks for x509, which needs its authProvider",
        ),
        (
            "enforce.auth.enabled=true\nDigestAuthenticationProvider.enabled=false\nenforce.auth.schemes=digest\n",
            "enforce.auth.schemes asks for digest, which needs its authProvider",
        ),
        (
            "saslUser.bob=s3cret\nsessionRequireClientSASLAuth=true\n",
            "sessionRequireClientSASLAuth asks for sasl, which needs its authProvider",
        ),
        (
            f"authProvider.1={PROVIDER}\nsessionRequireClientSASLAuth=true\n",
            "sessionRequireClientSASLAuth asks for sasl, but no user is in java.security.auth.login.config",
        ),
        ("sasl.serverconfig=Mine\n", "sasl.serverconfig needs java.security.auth.login.config"),
        ("saslUser.=s3cret\n", "saslUser. must not be empty"),
        ("saslUser.bob=\n", "saslUser.bob must not be empty"),
        ("superUser.1=\n", "superUser.1 must not be empty"),
        ("saslUser=s3cret\n", "saslUser is unknown"),
        ("saslUsers.bob=s3cret\n", "saslUsers.bob is unknown"),
        ("saslUser.bob=s3cret\nsaslUser.bob=s3cret2\n", "saslUser.bob stands twice, first at /zoo.cfg:3"),
        ("sessionRequireClientSASLAuth=maybe\n", "must be true or false, not 'maybe'"),
        ("fips-mode=true\n", "fips-mode must be false: FIPS mode is not offered"),
        ("java.security.auth.login.config=/no/such\n", "names /no/such, which cannot be read: No such file"),
    ],
)
def test_a_mistake_is_named_without_the_password(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert mistake in found
    assert found.startswith("/zoo.cfg:")


def test_a_mistake_in_the_login_file_is_named_with_both_places(tmp_path: Path) -> None:
    text = login_file(tmp_path, LOGIN.replace("required", "needed"))
    (found,) = mistakes(tmp_path, text)
    assert found.startswith("/zoo.cfg:3: java.security.auth.login.config cannot be used: /jaas.conf:1: one of required")
    (tmp_path / "jaas.conf").write_bytes(b"\xff")
    assert mistakes(tmp_path, text) == [
        "/zoo.cfg:3: java.security.auth.login.config names /jaas.conf, which is no UTF-8"
    ]


SECRETS = (
    "saslUser.bob=s3cret-1\nSASLAuthenticationProvider.superPassword=s3cret-2\nssl.keyStore.password=s3cret-3\n"
    "DigestAuthenticationProvider.superDigest=super:s3cret-4\n"
)


def test_a_configuration_shows_no_secret(tmp_path: Path) -> None:
    login = login_file(tmp_path, LOGIN.replace("user_bob", "user_ben"))
    config = load(tmp_path, MINIMAL + SECRETS + login + "sessionSecretFile=/path/to/it\n")
    for shown in (repr(config), str(config), config.text, repr(config.auth), repr(config.tls), str(config.notices)):
        assert "s3cret" not in shown
    assert f"saslUser.bob={HIDDEN}\n" in config.text
    assert f"ssl.keyStore.password={HIDDEN}\n" in config.text
    # A file's name is no secret.
    assert "sessionSecretFile=/path/to/it\n" in config.text
    assert (config.super_digest, config.tls.key_store_password) == ("super:s3cret-4", "s3cret-3")


def test_settings_on_their_way_show_no_secret() -> None:
    setting = Setting("saslUser.bob", "s3cret", "f", 3)
    assert repr(setting) == f"<Setting saslUser.bob={HIDDEN} at f:3>"
    reading = AuthReading(super_password="s3cret")
    reading.take("saslUser", "bob", "s3cret")
    assert "s3cret" not in repr(reading)
    with pytest.raises(ConfigurationError) as caught:
        build_config([setting, setting], "f")
    assert "s3cret" not in str(caught.value)
