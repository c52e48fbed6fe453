"""The command `secrets`: create the secrets of `docker-compose.yml` that are missing from a folder."""

from __future__ import annotations

import json
import secrets
from pathlib import Path  # noqa: TC003 - typer reads it from the signature
from typing import TYPE_CHECKING, Annotated

import jwt
import typer
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.control.world import public_half

if TYPE_CHECKING:
    from collections.abc import Callable

_KID = "sandbox-compose-1"
_PASSWORD_BYTES = 24


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    program.command("secrets", epilog="Example: trekkpaalegg-sandbox secrets .secrets")(make_secrets)


def make_secrets(
    folder: Annotated[Path, typer.Argument(help="Made if it is missing; for its owner alone.")],
    ledger_host: Annotated[str, typer.Option(help="Where the ledger's PostgreSQL will be.")] = "postgresql",
) -> None:
    """Make a client's key pair, a database password and the ledger's address; what is there stays as it is.

    The folder is for its owner alone. The files in it can be read by all who get at them, since containers see them
    under users of their own.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        key = _kept(folder / "maskinporten_client_jwk", _new_key)
        _kept(folder / "maskinporten_client_public_jwk", lambda: json.dumps(public_half(json.loads(key))))
        password = _kept(folder / "postgresql_password", lambda: secrets.token_urlsafe(_PASSWORD_BYTES))
        _kept(folder / "ledger", lambda: f"postgresql://payroll:{password}@{ledger_host}:5432/payroll")
    except (OSError, ValueError, KeyError) as error:
        typer.echo(f"{folder}: {type(error).__name__}; give a folder of yours, or remove what is in it", err=True)
        raise typer.Exit(1) from None


def _kept(path: Path, make: Callable[[], str]) -> str:
    """What the file holds, once it is there; it is never there half written."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(make() + "\n", encoding="utf-8")
        draft.chmod(0o444)
        draft.replace(path)
    return path.read_text(encoding="utf-8").strip()


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key, as_dict=True)
    return json.dumps({**jwk, "kid": _KID, "alg": "RS256", "use": "sig"})
