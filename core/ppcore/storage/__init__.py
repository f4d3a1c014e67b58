"""One path type for local directories and object stores, and bounded reading of what strangers wrote."""

from ppcore.storage.documents import MismatchError, convert, decode, read_json
from ppcore.storage.limits import MAX_JSON_BYTES, MAX_OBJECT_BYTES, open_table, read_table
from ppcore.storage.remote import UnreachableError
from ppcore.storage.store import Store

__all__ = [
    "MAX_JSON_BYTES",
    "MAX_OBJECT_BYTES",
    "MismatchError",
    "Store",
    "UnreachableError",
    "convert",
    "decode",
    "open_table",
    "read_json",
    "read_table",
]
