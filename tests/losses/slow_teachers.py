"""Losses with momentum teachers in plain loops, from the papers' equations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from losses.proofs import Seen, Slow
from losses.slow import rows_of
from losses.slow_clusters import log_softmax
from losses.slow_contrastive import cosine
from torch import Tensor


def softmax(scores: Tensor, temperature: float) -> list[Tensor]:
    return [torch.exp(s) for s in log_softmax(scores, temperature)]


def cross(p: Sequence[Tensor], log_q: Sequence[Tensor]) -> Tensor:
    return -torch.stack([a * b for a, b in zip(p, log_q, strict=True)]).sum()


def dino(seen: Seen, num_views: int = 4) -> Slow:
    """Caron et al. 2021, algorithm 1, for the crops [0, 2] of the teacher; its temperature rises over 3 steps."""
    crops, temperature = (0, 2), (0.04, 0.055, 0.07)[seen.step]
    student, teacher = rows_of(seen.outputs[0][0], num_views), rows_of(seen.teacher[0][0], len(crops))
    center = seen.state["center"][0]
    terms = []
    for order, q in enumerate(crops):
        for v in range(num_views):
            if v != q:
                pairs = zip(teacher[order], student[v], strict=True)
                terms += [cross(softmax(t - center, temperature), log_softmax(s, 0.1)) for t, s in pairs]
    outputs = [t for crop in teacher for t in crop]
    mean = torch.stack(outputs).sum(dim=0) / len(outputs)
    return Slow(torch.stack(terms).mean(), {"center": (0.9 * center + 0.1 * mean)[None]})


def ibot(seen: Seen) -> Slow:
    """Zhou et al. 2022, eq. 1 to 4: two global crops with masks, one local one."""
    (cls, patches), (local,) = seen.outputs
    teacher_cls, teacher_patches = seen.teacher[0]
    center, patch_center = seen.state["center"][0], seen.state["patch_center"][0, 0]
    student = [*rows_of(cls, 2), *rows_of(local, 1)]
    teacher = rows_of(teacher_cls, 2)
    cls_terms = [
        cross(softmax(t - center, 0.07), log_softmax(s, 0.1))
        for q in range(2)
        for v in range(3)
        if v != q
        for t, s in zip(teacher[q], student[v], strict=True)
    ]
    patch_terms = []
    for q in range(2):
        mask = seen.batch.masks[q]
        assert mask is not None
        ours, theirs = rows_of(patches, 2)[q], rows_of(teacher_patches, 2)[q]
        for n in range(len(mask)):
            own = [
                cross(softmax(theirs[n][i] - patch_center, 0.07), log_softmax(ours[n][i], 0.1))
                for i, masked in enumerate(mask[n].flatten())
                if masked
            ]
            patch_terms.append(sum(own, torch.zeros(())) / max(1, len(own)))
    count = teacher_patches.shape[0] * teacher_patches.shape[1]
    state = {
        "center": (0.9 * center + 0.1 * teacher_cls.sum(dim=0) / len(teacher_cls))[None],
        "patch_center": (0.9 * patch_center + 0.1 * teacher_patches.sum(dim=(0, 1)) / count)[None, None],
    }
    return Slow(torch.stack(cls_terms).mean() + torch.stack(patch_terms).mean(), state)


def msn(seen: Seen, num_views: int = 3) -> Slow:
    """Assran et al. 2022, eq. 1 and 2. The gradient of the prototypes is compared by the ranks' test."""
    anchors = rows_of(seen.outputs[0][0], num_views - 1)
    targets = list(seen.teacher[0][0])
    prototypes = list(seen.state["prototypes"])

    def assigned(z: Tensor) -> list[Tensor]:
        return softmax(torch.stack([cosine(z, q) for q in prototypes]), 0.1)

    p = [[assigned(z) for z in view] for view in anchors]
    terms = []
    for view in p:
        for target, anchor in zip(targets, view, strict=True):
            sharp = [value ** (1 / 0.25) for value in assigned(target)]
            total = torch.stack(sharp).sum()
            terms.append(cross([value / total for value in sharp], [torch.log(value) for value in anchor]))
    every = [row for view in p for row in view]
    mean = [torch.stack([row[k] for row in every]).sum() / len(every) for k in range(len(prototypes))]
    entropy = -torch.stack([value * torch.log(value) for value in mean]).sum()
    return Slow(torch.stack(terms).mean() - entropy)
