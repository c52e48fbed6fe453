"""The library that producer and consumers are built on, and that a consumer of your own can be built on too.

`PUBLIC_API` lists what is public, by module. It changes by the rules of semantic versioning; everything else in the
package may change at any time. Importing `trekkpaalegg` imports nothing else.
"""

from __future__ import annotations

PUBLIC_API: dict[str, tuple[str, ...]] = {
    "trekkpaalegg.exactly_once": (
        "ExactlyOnce",
        "IncomingEvent",
        "RetryOutcome",
        "StoreTables",
        "Tally",
        "define_tables",
    ),
    "trekkpaalegg.incoming": ("Coordinates", "IncomingEvent", "UndecodableMessage"),
    "trekkpaalegg.event": ("Betalingsinformasjon", "TrekkpaaleggVersjon", "TrekkstoerrelseForPeriode"),
    "trekkpaalegg.identifiers": ("Foedselsnummer",),
    "trekkpaalegg.decode": ("Decoder", "SchemaSource"),
    "trekkpaalegg.registry": ("SchemaRegistry",),
    "trekkpaalegg.errors": (
        "FatalError",
        "FencedError",
        "RefusedError",
        "RetryableError",
        "TrekkpaaleggError",
        "UndecodableError",
    ),
}
