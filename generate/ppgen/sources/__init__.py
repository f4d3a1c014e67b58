"""Sources: the generator protocol, model directories and hub repositories, devices, the source classifier, licences, costs."""

from ppgen.sources.catalogue import (
    COSTS,
    MATRIX_RATE,
    ListedGenerator,
    has_weights,
    least_hours,
    redistribution,
    require_licence,
    source_rows,
)
from ppgen.sources.classes import ClassIndex, known_ids
from ppgen.sources.classifier import (
    describe_classifier,
    describe_score,
    open_classifier,
    read_mapping,
    require_defined,
)
from ppgen.sources.devices import automatic_batch_size, choose_device, choose_dtype, make_deterministic
from ppgen.sources.models import find_weights, read_config, weights_sha256
from ppgen.sources.planned import NONE, Load, planned_spec, planned_target
from ppgen.sources.protocol import (
    FAMILIES,
    Generator,
    Source,
    SourceSpec,
    describe_source,
    read_options,
    resolve_source,
    sample_checked,
    source_kit,
)
