"""Losses as pure functions of logits, computed in float32 whatever the precision of the network.

Names: `z` logits, `p` probabilities, `w`/`s` weak/strong view of an unlabelled image, N images, K classes. Every unlabelled loss is a
mean over the WHOLE batch, is 0 for an empty batch, and stays finite for logits of +-1e4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pptrain.methods.base import process_count, sum_over_processes


def batch_mean(values: Tensor) -> Tensor:
    """Sum over N divided by N; 0 (with a gradient path) for an empty batch, where `mean` is NaN."""
    return values.sum() / max(values.shape[0], 1)


def cross_entropy(z: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy. z (N, K); target int64 (N,) or probabilities (N, K)."""
    if z.shape[0] == 0:
        return z.float().sum()
    return F.cross_entropy(z.float(), target, label_smoothing=label_smoothing)


def confidence(z: Tensor) -> tuple[Tensor, Tensor]:
    """(largest probability (N,), its class int64 (N,)), without gradient."""
    return z.detach().float().softmax(1).max(1)


def divergence(target_log: Tensor, z: Tensor) -> Tensor:
    """KL(target || softmax(z)) of every row: (N,). `target_log` (N, K) are log-probabilities; they get no gradient."""
    target_log = target_log.detach()
    return (target_log.exp() * (target_log - F.log_softmax(z.float(), 1))).sum(1)


def ramp(progress: float, length: float) -> float:
    """Rises linearly from 0 to 1 over the share `length` of training; with `length` 0 it is 1 from the start."""
    return 1.0 if length <= 0 else min(max(progress / length, 0.0), 1.0)


# ---- supervised


def tsa_threshold(progress: float, num_classes: int, schedule: str) -> float:
    """Training signal annealing, eta_t of UDA (Xie et al. 2020, section 3.2): from 1/K to 1."""
    alpha = {
        "linear": progress,
        "log": 1.0 - math.exp(-5.0 * progress),
        "exp": math.exp(5.0 * (progress - 1.0)),
    }[schedule]
    return alpha * (1.0 - 1.0 / num_classes) + 1.0 / num_classes


def tsa_cross_entropy(z: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Cross-entropy over labelled images whose probability of the CORRECT class is at most `threshold`, divided by their
    number (UDA, equation 4). The number is that of all processes, so that the mean over processes is the loss of the global batch."""
    loss = F.cross_entropy(z.float(), target, reduction="none")
    keep = (torch.exp(-loss.detach()) <= threshold).float()
    kept = sum_over_processes(keep.sum()).clamp_min(1.0)
    return process_count() * (loss * keep).sum() / kept


# ---- semi-supervised


def entropy_minimization(z: Tensor) -> Tensor:
    """Mean entropy of p(z) (Grandvalet & Bengio 2004)."""
    log_p = F.log_softmax(z.float(), 1)
    return batch_mean(-(log_p.exp() * log_p).sum(1))


def pseudo_label(z_w: Tensor, threshold: float) -> Tensor:
    """CE(z_w, argmax z_w) where max p >= threshold (Lee 2013); the gradient goes through the same view."""
    best, label = confidence(z_w)
    loss = F.cross_entropy(z_w.float(), label, reduction="none")
    return batch_mean(loss * (best >= threshold))


def soft_pseudo_label(z_s: Tensor, z_w: Tensor) -> Tensor:
    """CE(z_s, p(z_w)), without threshold; the target p(z_w) gets no gradient."""
    target = z_w.detach().float().softmax(1)
    return batch_mean(-(target * F.log_softmax(z_s.float(), 1)).sum(1))


def consistency_mse(z: Tensor, z_other: Tensor) -> Tensor:
    """MSE of probabilities, mean over images and classes (Pi-model, Laine & Aila 2017; Mean Teacher, Tarvainen & Valpola
    2017). Detach `z_other` for a teacher."""
    squared = (z.float().softmax(1) - z_other.float().softmax(1)).square()
    return batch_mean(squared.mean(1))


def uda(z_s: Tensor, z_w: Tensor, *, threshold: float, temperature: float) -> tuple[Tensor, Tensor]:
    """UDA's consistency term (Xie et al. 2020, equation 1 with confidence masking and sharpening): (loss, share kept).

    mean over the whole batch of 1{max softmax(z_w) > threshold} * KL(stop(softmax(z_w / temperature)) || softmax(z_s)).
    The mask looks at the unsharpened probabilities; the student's logits are not divided by the temperature.
    """
    best, _ = confidence(z_w)
    keep = (best > threshold).float()
    target_log = F.log_softmax(z_w.detach().float() / temperature, 1)
    return batch_mean(keep * divergence(target_log, z_s)), batch_mean(keep)


def fixmatch(z_s: Tensor, z_w: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """FixMatch (Sohn et al. 2020, equation 4): CE(z_s, argmax z_w) * 1{max p >= threshold}: (loss, share kept).

    `threshold` may be a tensor (K,) with one threshold per class (FreeMatch, FlexMatch).
    """
    best, label = confidence(z_w)
    limit = threshold[label] if isinstance(threshold, Tensor) else threshold
    keep = (best >= limit).float()
    loss = F.cross_entropy(z_s.float(), label, reduction="none")
    return batch_mean(keep * loss), batch_mean(keep)


def flexmatch_thresholds(learned: Tensor, unused: Tensor, threshold: float) -> Tensor:
    """tau_c = tau * beta_c / (2 - beta_c) (Zhang et al. 2021, equations 6, 7 and 11): (K,).

    `learned` (K,) counts the unlabelled images confidently predicted as each class, `unused` () those without such a prediction.
    """
    beta = learned.float() / torch.maximum(learned.max(), unused).clamp_min(1).float()
    return threshold * beta / (2.0 - beta)


def freematch_thresholds(global_threshold: Tensor, class_mean: Tensor) -> Tensor:
    """tau_c = tau * ptilde_c / max ptilde (Wang et al. 2023, equation 8): () and (K,) -> (K,)."""
    return global_threshold * class_mean / class_mean.max()


def freematch_fairness(z_s: Tensor, keep: Tensor, class_mean: Tensor, class_hist: Tensor) -> Tensor:
    """Self-adaptive class fairness (Wang et al. 2023, equations 9-11): sum of SumNorm(ptilde / htilde) *
    log SumNorm(pbar / hbar), over the images of `keep` (N,) of all processes; 0 when none is kept."""
    p = z_s.float().softmax(1)
    keep = keep.float()
    kept = sum_over_processes(keep.sum())
    mean = sum_over_processes((p * keep[:, None]).sum(0)) / kept.clamp_min(1.0)
    hist = sum_over_processes(_histogram(p.argmax(1), keep, p.shape[1])) / kept.clamp_min(1.0)
    expected = _ratio(class_mean, class_hist)
    actual = _ratio(mean, hist)
    return (expected.detach() * torch.log(actual + 1e-12)).sum() * (kept > 0)


def softmatch_weights(best: Tensor, mean: Tensor, variance: Tensor, n_sigma: float) -> Tensor:
    """exp(-min(best - mean, 0)^2 * n^2 / (2 sigma^2)) (Chen et al. 2023, equation 6): (N,)."""
    short = (best - mean).clamp(max=0.0)
    return torch.exp(-short.square() * n_sigma**2 / (2.0 * variance.clamp_min(1e-12)))


def softmatch(z_s: Tensor, z_w: Tensor, weights: Tensor) -> Tensor:
    """CE(z_s, argmax z_w) weighted by `weights` (N,), mean over the whole batch. The label is chosen before alignment."""
    _, label = confidence(z_w)
    return batch_mean(weights.detach() * F.cross_entropy(z_s.float(), label, reduction="none"))


def uniform_alignment(p: Tensor, class_mean: Tensor) -> Tensor:
    """p * (1/K) / class_mean, renormalised (Chen et al. 2023, equation 9): (N, K)."""
    aligned = p / (class_mean * p.shape[1]).clamp_min(1e-12)
    return aligned / aligned.sum(1, keepdim=True).clamp_min(1e-12)


def feature_consistency(f_s: Tensor, f_w: Tensor) -> Tensor:
    """Mean squared distance of the L2-normalised features (N, D) of two views; the weak one gets no gradient.

    The feature-level pseudo-consistency idea of MGR (Yamaguchi et al. 2023, arXiv 2307.13899): synthetic images shape the
    features and never the classifier's decision.
    """
    strong, weak = F.normalize(f_s.float(), dim=1), F.normalize(f_w.detach().float(), dim=1)
    return batch_mean((strong - weak).square().sum(1))


# ---- distillation


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """p^(1/T), renormalised: (N, K) probabilities -> (N, K); T below 1 sharpens, T = 1 changes nothing."""
    if temperature == 1.0:
        return p
    powered = p.float().clamp_min(1e-12) ** (1.0 / temperature)
    return powered / powered.sum(1, keepdim=True)


def soft_target(z: Tensor, z_teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(p_teacher(T) || p_student(T)), summed over classes, mean over the batch (Hinton et al. 2015)."""
    teacher_log = F.log_softmax(z_teacher.detach().float() / temperature, 1)
    return temperature**2 * batch_mean(divergence(teacher_log, z.float() / temperature))


def logit_matching(z: Tensor, z_teacher: Tensor) -> Tensor:
    """MSE of logits, mean over the batch AND the classes (Ba & Caruana 2014)."""
    return batch_mean((z.float() - z_teacher.detach().float()).square().mean(1))


def _histogram(labels: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """(K,) sums of `weights` by label; `bincount` would wait for the GPU."""
    return torch.zeros(num_classes, device=labels.device).index_add_(0, labels, weights)


def _ratio(values: Tensor, counts: Tensor) -> Tensor:
    """values / counts, 0 where the count is 0, normalised to sum 1."""
    scaled = torch.where(counts > 0, values / counts.clamp_min(1e-12), torch.zeros_like(values))
    return scaled / scaled.sum().clamp_min(1e-12)
