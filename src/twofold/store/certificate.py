"""Making a certificate. Imported by `twofold keys` alone, because the library takes its time to load."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from twofold.store.grant import LAST_MOMENT

NAME = "twofold"  # clients know a processor by its fingerprint, so what its certificate calls it says nothing


def self_signed(now: float) -> bytes:
    """A new private key (ECDSA, P-256) and a certificate for it, in PEM. `now`: seconds since 1970.

    Valid from a day before, for clocks that are behind, and without end (RFC 5280, 4.1.2.5): the fingerprint is
    all that is believed of it, and what ends is a token.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(now - 86400, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(LAST_MOMENT, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
