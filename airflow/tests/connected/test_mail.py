"""Alerts by e-mail, to a real SMTP server."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fraud_airflow.alerting.alert import Message
from fraud_airflow.alerting.mail import EmailChannel
from fraud_airflow.alerting.notifier import ChannelFailed

USER, PASSWORD = "fraud-mailer", "the-mailbox-password"
PLAIN = {"disable_ssl": True, "disable_tls": True}
STARTTLS = {"disable_ssl": True}
IMPLICIT_TLS = {"disable_tls": True}


class Mailbox:
    """Takes mails, except for recipients in `unknown`."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.unknown: set[str] = set()
        self.verdict = "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.unknown:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((envelope.rcpt_tos, mail))
        return self.verdict


def _authenticate(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)


class AnyPort(Controller):
    """The system chooses the port."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@contextmanager
def smtp_server(mailbox: Mailbox, **options: Any) -> Iterator[int]:
    """Port of a server that runs in a thread."""
    controller = AnyPort(mailbox, hostname="127.0.0.1", port=0, ready_timeout=30, **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The server's side; clients of this process trust the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


def _connect(supervisor: Any, port: int, extra: dict[str, Any], **fields: Any) -> None:
    extra = {"from_email": "fraud@bank.example", "timeout": 10, "retry_limit": 0} | extra
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": json.dumps(extra)}
    supervisor.connections["fraud_smtp"] = connection | fields


MESSAGE = Message("[high] Ünsafe — renew failed", "1 < 2 & <b>\nsecond line\n", "http://airflow/x?a=1&b=2")
TO = "a@bank.example; b@bank.example,"


def test_a_mail_arrives_as_it_was_meant(mailbox: Mailbox, supervisor: Any) -> None:
    with smtp_server(mailbox) as port:
        _connect(supervisor, port, PLAIN)
        EmailChannel(TO).send(MESSAGE)
    ((to, mail),) = mailbox.mails
    assert to == ["a@bank.example", "b@bank.example"]
    assert mail["Subject"] == MESSAGE.subject
    assert mail["From"] == "fraud@bank.example"
    assert mail["To"] == "a@bank.example, b@bank.example"
    body = mail.get_body()
    assert body is not None
    text = body.get_content()
    assert "1 &lt; 2 &amp; &lt;b&gt;\nsecond line" in text
    assert 'href="http://airflow/x?a=1&amp;b=2"' in text


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_log_in_over_tls(mode: str, mailbox: Mailbox, supervisor: Any, tls: ssl.SSLContext) -> None:
    options: dict[str, Any] = {"authenticator": _authenticate, "auth_required": True}
    if mode == "starttls":
        options |= {"tls_context": tls, "require_starttls": True}
    else:
        # The server does not know that the socket below it is encrypted.
        options |= {"ssl_context": tls, "auth_require_tls": False}
    with smtp_server(mailbox, **options) as port:
        _connect(
            supervisor,
            port,
            STARTTLS if mode == "starttls" else IMPLICIT_TLS,
            login=USER,
            password=PASSWORD,
        )
        EmailChannel(TO).send(MESSAGE)
    assert len(mailbox.mails) == 1


def test_a_wrong_password_is_named_without_it(
    mailbox: Mailbox, supervisor: Any, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with smtp_server(mailbox, authenticator=_authenticate, tls_context=tls) as port:
        _connect(supervisor, port, STARTTLS, login=USER, password="wrong-password")
        with pytest.raises(ChannelFailed, match=r"connection fraud_smtp: 535 .*invalid") as caught:
            EmailChannel(TO).send(MESSAGE)
    assert "wrong-password" not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__


def test_a_certificate_nobody_vouches_for_is_refused(
    mailbox: Mailbox, supervisor: Any, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with smtp_server(mailbox, tls_context=tls, require_starttls=True) as port:
        _connect(supervisor, port, STARTTLS)
        with pytest.raises(ChannelFailed, match="certificate verify failed"):
            EmailChannel(TO).send(MESSAGE)
    assert mailbox.mails == []


def test_one_unknown_recipient_does_not_keep_the_others_from_it(mailbox: Mailbox, supervisor: Any) -> None:
    mailbox.unknown = {"a@bank.example"}
    with smtp_server(mailbox) as port:
        _connect(supervisor, port, PLAIN)
        EmailChannel(TO).send(MESSAGE)
        assert mailbox.mails[0][0] == ["b@bank.example"]
        mailbox.unknown |= {"b@bank.example"}
        with pytest.raises(ChannelFailed, match="refuses all of ALERT_EMAIL_RECIPIENTS"):
            EmailChannel(TO).send(MESSAGE)


def test_a_server_that_refuses_the_mail(mailbox: Mailbox, supervisor: Any) -> None:
    mailbox.verdict = "554 looks like spam"
    with smtp_server(mailbox) as port:
        _connect(supervisor, port, PLAIN)
        with pytest.raises(ChannelFailed, match=r"connection fraud_smtp: 554 looks like spam\.$"):
            EmailChannel(TO).send(MESSAGE)


def test_a_server_that_asks_to_come_again_later(mailbox: Mailbox, supervisor: Any) -> None:
    """Greylisting (RFC 6647): the watch sends the message again, and then it is taken."""
    mailbox.verdict = "451 4.7.1 greylisted, try again later"
    with smtp_server(mailbox) as port:
        _connect(supervisor, port, PLAIN)
        with pytest.raises(ChannelFailed, match=r"451 4\.7\.1 greylisted, try again later\.$"):
            EmailChannel(TO).send(MESSAGE)
        mailbox.mails.clear()
        mailbox.verdict = "250 OK"
        EmailChannel(TO).send(MESSAGE)
    assert len(mailbox.mails) == 1


def test_a_server_that_says_nothing_is_given_up(supervisor: Any, silent_port: int) -> None:
    _connect(supervisor, silent_port, PLAIN | {"timeout": 1})
    with pytest.raises(ChannelFailed, match="connection fraud_smtp: Unable to connect"):
        EmailChannel(TO).send(MESSAGE)


@pytest.mark.parametrize(
    ("host", "sentence"), [("nowhere.invalid", "fraud_smtp: .+"), ("127.0.0.1", "Connection refused")]
)
def test_a_server_that_is_not_there(host: str, sentence: str, supervisor: Any) -> None:
    _connect(supervisor, 1, PLAIN, host=host)
    with pytest.raises(ChannelFailed, match=sentence):
        EmailChannel(TO).send(MESSAGE)


def test_a_connection_that_is_not_there(supervisor: Any) -> None:
    with pytest.raises(ChannelFailed, match="connection fraud_smtp: SMTP connection is not found"):
        EmailChannel(TO).send(MESSAGE)


@pytest.mark.parametrize(
    "wrong", ["nobody", "a@b.example\nBcc: c@d.example", "Eve <a@b.example>", "a@@b.example", "a b@c.example"]
)
def test_what_is_no_address_is_named(wrong: str, supervisor: Any) -> None:
    with pytest.raises(ChannelFailed, match=r"ALERT_EMAIL_RECIPIENTS: '.*' is not an e-mail address"):
        EmailChannel(f"x@y.example,{wrong}").send(MESSAGE)


def test_no_header_can_be_smuggled_in(mailbox: Mailbox, supervisor: Any) -> None:
    with smtp_server(mailbox) as port:
        _connect(supervisor, port, PLAIN)
        with pytest.raises(ChannelFailed, match="a header of the mail is malformed"):
            EmailChannel(TO).send(Message("a\r\nBcc: eve@example.org\r\n\r\nhello", "text"))
    assert mailbox.mails == []
