"""Half of what is asked is about things that the hub has, so that answers are more than 404."""

import json
import os
import zlib

import schemathesis

KNOWN = json.loads(os.environ["KNOWN"])


@schemathesis.serializer("application/vnd.selvedge.batch+json+zstd")
def as_it_is(ctx, value):
    return value if isinstance(value, bytes) else repr(value).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    # A name of a write that comes again and again would be answered from memory.
    if case.headers:
        case.headers.pop("idempotency-key", None)
    meta = case.meta
    if not case.path_parameters or meta is None or not meta.generation.mode.is_positive:
        return
    drawn = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode(errors="replace"))
    if drawn % 2:
        for name in case.path_parameters:
            if name in KNOWN:
                case.path_parameters[name] = KNOWN[name]
