"""Models of a diffusers directory, loaded without running any code of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError


def load_component(class_name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """A diffusers model from its directory, in eval mode, without gradients.

    Safetensors are preferred; a pickle is read with weights_only.

    Raises:
        UserError: missing or damaged files.
    """
    import diffusers  # heavy: seconds, and only these families need it
    from diffusers.utils import logging  # heavy: see above

    logging.set_verbosity_error()
    try:
        model = getattr(diffusers, class_name).from_pretrained(
            folder, dtype=dtype, local_files_only=True, low_cpu_mem_usage=False
        )
    except (
        Exception
    ) as error:  # diffusers, safetensors and pickle each raise their own types for a damaged directory
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{folder} cannot be loaded as {class_name} ({reason}); expected what save_pretrained writes"
        ) from error
    return model.to(device).eval().requires_grad_(False)
