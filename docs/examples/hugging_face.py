"""Shards as a dataset of Hugging Face's `datasets`: python hugging_face.py runs/synth-letters"""

import sys

from datasets import load_dataset

from pptransfer import shard_urls

stream = load_dataset(
    "webdataset", data_files={"train": shard_urls(sys.argv[1])}, split="train", streaming=True
)
stream = stream.shuffle(seed=0, buffer_size=1000).rename_columns({"png": "image", "cls": "label"})
for row in stream.take(3):
    print(row["__key__"], row["image"].size, row["label"])
