"""One path type for local directories and object stores, locks, and bounded reading of files that anybody may have written."""

from ppcore.storage.documents import (
    MAX_JSON_BYTES,
    MAX_OBJECT_BYTES,
    MismatchError,
    OutsideError,
    convert,
    decode,
    open_table,
    read_json,
    read_table,
    require_inside,
)
from ppcore.storage.locks import HeldError, hold
from ppcore.storage.remote import UnreachableError
from ppcore.storage.stderr import KeptStderr
from ppcore.storage.store import Store, in_order
