"""From a pre-trained conditional generator to shards: plan -> sample -> encode -> commit."""
