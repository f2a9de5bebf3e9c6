"""The door of a processor: who comes in by the tokens of the keys folder, as they are now."""

import time
from pathlib import Path

from twofold.errors import ConfigurationError
from twofold.log import logger
from twofold.model.manifest import Manifest
from twofold.processor.admission import Admission
from twofold.store.grant import Grant
from twofold.store.keys import WatchedGrants
from twofold.wire.message import Hello


class Door:
    """`Admission` by the tokens in `folder`; nothing is read before somebody comes."""

    def __init__(self, folder: Path) -> None:
        self._watched = WatchedGrants(folder)
        self._admission = Admission()

    def admit(self, hello: Hello, manifest: Manifest, *, nonce: bytes, fingerprint: bytes) -> Grant:
        """The grant that the client of `hello` comes in under; Refused (`Admission.admit`)."""
        self.look()
        return self._admission.admit(hello, manifest, now=time.time(), nonce=nonce, fingerprint=fingerprint)

    def ended(self, grant: Grant) -> str | None:
        """Why who came in under `grant` must go, or None (`Admission.ended`), as of the last `look`."""
        return self._admission.ended(grant, time.time())

    def look(self) -> None:
        """Go by the tokens as they are now; if their file cannot be read, by those before, and the log says so."""
        try:
            grants = self._watched.changed()
        except ConfigurationError as error:
            logger("processor").warning("the tokens stay as they were: %s", error)
            return
        if grants is not None:
            self._admission.reload(grants)
