"""TLS as it has to be: version 1.2 or later, certificates and host names checked, errors that help.

A context that users bring is theirs. What it leaves open is said in the log.
"""

from __future__ import annotations

import logging
import ssl

__all__ = ["client_context", "distrust", "examined"]

_LEAST = ssl.TLSVersion.TLSv1_2

# What to do, by the code of OpenSSL's X509_verify_cert. Host names are the last two.
_OWN = "for one of your own, give its file to ssl_context: ssl.create_default_context(cafile=…)"
_ADVICE = {
    9: "is the clock of this machine right?",
    10: "it has to be renewed at the server; or is the clock of this machine wrong?",
    18: f"it is signed by nobody else; {_OWN}",
    19: f"nobody here knows the authority that issued it; {_OWN}",
    20: f"nobody here knows the authority that issued it; {_OWN}",
    21: f"nobody here knows the authority that issued it; {_OWN}",
    62: "it is for another host: dial a name that it has, or have one issued for this name",
    64: "it is for another host: dial a name that it has, or have one issued for this address",
}


def client_context() -> ssl.SSLContext:
    """What a client checks with that was not given a context: the authorities of the system."""
    context = ssl.create_default_context()
    context.minimum_version = max(context.minimum_version, _LEAST)  # Python 3.9 says nothing
    return context


def distrust(error: ssl.SSLCertVerificationError) -> str:
    """What is wrong with a certificate, and what to do."""
    advice = _ADVICE.get(error.verify_code)
    told = str(error.verify_message).rstrip(".")
    return told if advice is None else f"{told}; {advice}"


def examined(
    context: ssl.SSLContext | None, log: logging.Logger, *, checks_host: bool = False
) -> ssl.SSLContext | None:
    """A context as it was given; says in the log what it permits that it should not.

    Args:
        context: That a user brought; None: there is none.
        log: Of the endpoint.
        checks_host: Whether it has to check who is at the other end, as that of a client has to.
    """
    if context is None:
        return None
    if context.minimum_version < _LEAST:
        log.warning(
            "ssl_context permits versions of TLS that are broken: set"
            " context.minimum_version = ssl.TLSVersion.TLSv1_2"
        )
    if checks_host and not (context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED):
        log.warning(
            "ssl_context checks no certificate, or not whose it is: anyone on the way can read and"
            " change everything"
        )
    return context
