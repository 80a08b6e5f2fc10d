"""What schemathesis asks about: mostly something that is there."""

import json
import os

import schemathesis

KNOWN = json.loads(os.environ["KAPELLE_KNOWN"])


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    for name, value in (path_parameters or {}).items():
        known = KNOWN.get(name)
        # Seven of eight; which of them is the case's own dice. A key that is revoked is not the one that asks.
        dice = sum(str(value).encode())
        if known and (dice % 8 or name == "key"):
            path_parameters[name] = known[dice % len(known)]
    return path_parameters
