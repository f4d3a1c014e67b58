"""Copy some classes of a labelled parquet file (Hugging Face image layout) to a file of its own.

    python -m tools.subset data/cifar/cifar10-test.parquet data/cifar/animals-test.parquet --classes bird,cat,deer,dog,frog,horse

Labels are numbered anew, in the order given.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_KEY = b"huggingface"


def subset(table: pa.Table, classes: list[str]) -> pa.Table:
    """The rows of `classes`, with labels 0 to len(classes) - 1 in this order. Raises ValueError if a class is not in the table."""
    document = json.loads(table.schema.metadata[_KEY])
    described = document["info"]["features"]["label"]
    numbers = pa.array([described["names"].index(name) for name in classes], pa.int64())
    described["names"] = classes
    kept = table.filter(pc.is_in(table["label"], numbers))
    label = pc.index_in(kept["label"], numbers).cast(pa.int64())
    kept = kept.set_column(kept.schema.get_field_index("label"), "label", label)
    return kept.replace_schema_metadata({**table.schema.metadata, _KEY: json.dumps(document)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", required=True, help="names, with commas")
    options = parser.parse_args()
    pq.write_table(subset(pq.read_table(options.source), options.classes.split(",")), options.out)


if __name__ == "__main__":
    main()
