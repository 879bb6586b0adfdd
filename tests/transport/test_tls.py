"""What TLS has to be, and what is said of a context that permits less."""

from __future__ import annotations

import logging
import ssl
import warnings
from typing import Any

import pytest

from tests.transport.ends import SUBPROTOCOL, Certificates
from wse_sync import WseClient, WseServer
from wse_sync.transport import dialed
from wse_sync.transport.dialing import DialFailed
from wse_sync.transport.tls import client_context, distrust

VERSIONS = [ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1]


def weakened(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = version
    return context


def test_a_client_speaks_1_2_or_later_and_checks_certificates_and_names() -> None:
    context = client_context()
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_where_the_library_opens_the_socket_it_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a proxy, or with options for the socket."""
    given: list[Any] = []

    def create_connection(url: str, **options: Any) -> None:
        given.append(options["sslopt"])
        raise OSError("no further")

    monkeypatch.setattr("websocket.create_connection", create_connection)
    with pytest.raises(DialFailed):
        options = {"sockopt": ()}
        dialed.NetworkDialer().dial("wss://localhost:1/", SUBPROTOCOL, 1.0, None, options)
    (sslopt,) = given
    context = sslopt["context"]
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert sslopt["cert_reqs"] is ssl.CERT_REQUIRED
    assert sslopt["check_hostname"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_context_that_permits_old_versions_is_used_and_named_in_the_log(
    caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion
) -> None:
    for_server = weakened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    for_client = weakened(ssl.create_default_context(), version)
    assert WseServer(lambda auth: auth.refuse(), ssl_context=for_server).ssl_context is for_server
    assert WseClient("wss://localhost/", ssl_context=for_client).ssl_context is for_client
    loggers = [record.name for record in caplog.records if "TLSv1_2" in record.getMessage()]
    assert loggers == ["wse_sync.server", "wse_sync.client"]


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_a_client_that_does_not_check_is_told_so(
    caplog: pytest.LogCaptureFixture, mode: ssl.VerifyMode
) -> None:
    context = client_context()
    context.check_hostname = False
    context.verify_mode = mode
    WseClient("wss://localhost/", ssl_context=context)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "checks no certificate" in record.getMessage()


def test_good_contexts_are_nothing_to_talk_about(
    caplog: pytest.LogCaptureFixture, certificates: Certificates
) -> None:
    for_server = certificates.server()
    for_server.minimum_version = ssl.TLSVersion.TLSv1_2
    WseServer(lambda auth: auth.refuse(), ssl_context=for_server)
    WseClient("wss://localhost/", ssl_context=client_context())
    assert caplog.records == []


def test_what_nobody_has_advice_for_is_told_as_it_is() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 23, "certificate revoked"
    assert distrust(error) == "certificate revoked"
