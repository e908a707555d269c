"""Losses with given targets, with a memory, and distillations, in plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from losses.proofs import Seen, Slow
from losses.slow import rows_of
from losses.slow_clusters import log_softmax, sinkhorn
from losses.slow_teachers import cross, softmax
from torch import Tensor

MASK = 2**64 - 1


def hashed(x: int) -> int:
    """splitmix64's finalizer, in integers that do not wrap by themselves."""
    x &= MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def drawn(index: int, count: int, below: int, stream: int) -> list[int]:
    base = hashed(hashed(index) + stream)
    return [(hashed(base + place * 0x9E3779B97F4A7C15) & (2**63 - 1)) % below for place in range(1, count + 1)]


def unit(z: Tensor) -> Tensor:
    return z / torch.sqrt(torch.dot(z, z))


def npid(seen: Seen, nce: bool = True, weights: Sequence[float] = (1.0,), images: int = 300, noise: int = 12) -> Slow:
    """Wu et al. 2018, eq. 2 to 9; every output moves the memory, one after the other."""
    memory = seen.state["memory"]
    updated, index = memory.clone(), seen.batch.index.tolist()
    scores = [
        [
            [
                torch.dot(memory[x], unit(v)) / 0.07
                for x in [y, *drawn(y, noise, images, seen.step * len(weights) + place)]
            ]
            for v, y in zip(output, index, strict=True)
        ]
        for place, output in enumerate(seen.outputs[0])
    ]
    z = seen.state["z"]
    if z < 0:
        z = images * torch.stack([torch.exp(s.detach()) for row in scores[0] for s in row]).mean()
    losses = []
    for weight, rows in zip(weights, scores, strict=True):
        terms = []
        for own, *others in rows:
            if nce:
                p = [torch.exp(s) / z for s in (own, *others)]
                kn = noise / images
                terms.append(
                    -torch.log(p[0] / (p[0] + kn)) - sum((torch.log(kn / (q + kn)) for q in p[1:]), torch.zeros(()))
                )
            else:
                terms.append(-torch.log(torch.exp(own) / torch.stack([torch.exp(s) for s in (own, *others)]).sum()))
        losses.append(weight * torch.stack(terms).mean())
    for output in seen.outputs[0]:
        for v, y in zip(output, index, strict=True):
            updated[y] = unit(0.5 * updated[y] + 0.5 * unit(v.detach()))
    state = {"memory": updated}
    return Slow(torch.stack(losses).sum(), {**state, "z": z} if nce else state)


def deepcluster(seen: Seen, num_views: int = 3, clusterings: int = 2) -> Slow:
    """Cross entropy to the clusters that the k-means of this epoch gave; the memory then holds crop 0."""
    views = rows_of(seen.outputs[0][0], num_views)
    index = seen.batch.index.tolist()
    terms = []
    for h in range(clusterings):
        centroids, assigned = seen.state[f"centroids{h}"], seen.state["assignments"][h].tolist()
        for view in views:
            for z, y in zip(view, index, strict=True):
                logits = torch.stack([torch.dot(unit(z), c) for c in centroids])
                terms.append(-log_softmax(logits, 0.1)[assigned[y]])
    memory = torch.stack([unit(z.detach()) for z in views[0]])[None]
    return Slow(torch.stack(terms).mean(), {"memory": memory, "memory_index": seen.batch.index})


def cross_entropy(seen: Seen, smoothing: float = 0.0, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> Slow:
    """Every output; label -1 counts nothing; a weighted mean over the images."""
    assert seen.batch.label is not None
    labels = [int(y) for y in seen.batch.label]
    total = []
    for output in seen.outputs[0]:
        terms, weight = [], 0.0
        for view in rows_of(output, 2):
            for logits, y in zip(view, labels, strict=True):
                if y != -1:
                    log_p = log_softmax(logits, 1.0)
                    wanted = [(1 - smoothing) * (k == y) + smoothing / len(log_p) for k in range(len(log_p))]
                    terms.append(-weights[y] * torch.stack([w * lp for w, lp in zip(wanted, log_p, strict=True)]).sum())
                    weight += weights[y]
        total.append(torch.stack(terms).sum() / weight)
    return Slow(torch.stack(total).sum())


def bce(seen: Seen) -> Slow:
    """Per class, the mean over the images whose target is known; summed over classes and outputs."""
    assert seen.batch.label is not None
    total = torch.zeros(())
    for output in seen.outputs[0]:
        rows = [row for view in rows_of(output, 2) for row in view]
        targets = [t for _ in range(2) for t in seen.batch.label.tolist()]
        for k in range(output.shape[1]):
            terms = []
            for row, target in zip(rows, targets, strict=True):
                p = 1 / (1 + torch.exp(-row[k]))
                if target[k] != -1:
                    terms.append(-torch.log(p) if target[k] == 1 else -torch.log(1 - p))
            total = total + sum(terms, torch.zeros(())) / max(1, len(terms))
    return Slow(total)


def mse(seen: Seen) -> Slow:
    """The mean of the squares over images and classes."""
    assert seen.batch.label is not None
    (output,) = seen.outputs[0]
    targets = [t for _ in range(2) for t in seen.batch.label]
    terms = [
        (a - b) ** 2 for row, target in zip(output, targets, strict=True) for a, b in zip(row, target, strict=True)
    ]
    return Slow(torch.stack(terms).mean())


def distillation(seen: Seen, alpha: float = 0.7, temperature: float = 2.0) -> Slow:
    """Hinton et al. 2015: KL of the softened outputs, and cross entropy to the labels."""
    assert seen.batch.label is not None
    labels = [int(y) for _ in range(2) for y in seen.batch.label]
    terms = []
    for x, t, y in zip(seen.outputs[0][0], seen.teacher[0][0], labels, strict=True):
        p, log_q = softmax(t, temperature), log_softmax(x, temperature)
        kl = torch.stack([a * (torch.log(a) - b) for a, b in zip(p, log_q, strict=True)]).sum()
        terms.append(alpha * temperature**2 * kl - (1 - alpha) * log_softmax(x, 1.0)[y])
    return Slow(torch.stack(terms).mean())


def pairs(swapped: bool, crops: int, views: int) -> list[tuple[int, int]]:
    return [(q, v) for q in range(crops) for v in range(views) if (v != q if swapped else v == q or v >= crops)]


def crops(seen: Seen, targets: Callable[[Tensor], list[Tensor]], swapped: bool = False, num_views: int = 3) -> Slow:
    """Cross entropy of the student's crops to what `targets` makes of the teacher's first two."""
    student = rows_of(seen.outputs[0][0], num_views)
    teacher = rows_of(seen.teacher[0][0], 2)
    terms = [
        cross(targets(t), log_softmax(s, 0.1))
        for q, v in pairs(swapped, 2, num_views)
        for t, s in zip(teacher[q], student[v], strict=True)
    ]
    return Slow(torch.stack(terms).mean())


def swav_distillation(seen: Seen, swapped: bool = True, num_views: int = 3) -> Slow:
    """Codes of the teacher's scores, by Sinkhorn, for every matrix of prototypes."""
    terms = []
    for mine, theirs in zip(seen.outputs[0][1:], seen.teacher[0][1:], strict=True):
        student, teacher = rows_of(mine, num_views), rows_of(theirs, 2)
        codes = [sinkhorn(view, 0.03, 3) for view in teacher]
        for q, v in pairs(swapped, 2, num_views):
            for code, s in zip(codes[q], student[v], strict=True):
                terms.append(-torch.stack([a * b for a, b in zip(code, log_softmax(s, 0.1), strict=True)]).sum())
    heads = len(seen.outputs[0]) - 1
    per_head = torch.stack(terms).reshape(heads, -1).mean(dim=1)
    return Slow(per_head.mean())


def ibot_distillation(seen: Seen) -> Slow:
    """Class tokens in pairs, and the masked patches of the same crop."""
    (cls, patches), (local,) = seen.outputs
    teacher_cls, teacher_patches = seen.teacher[0]
    student = [*rows_of(cls, 2), *rows_of(local, 1)]
    teacher = rows_of(teacher_cls, 2)
    cls_terms = [
        cross(softmax(t, 0.07), log_softmax(s, 0.1))
        for q, v in pairs(False, 2, 3)
        for t, s in zip(teacher[q], student[v], strict=True)
    ]
    patch_terms = []
    for q in range(2):
        mask = seen.batch.masks[q]
        assert mask is not None
        for n in range(len(mask)):
            own = [
                cross(
                    softmax(rows_of(teacher_patches, 2)[q][n][i], 0.07), log_softmax(rows_of(patches, 2)[q][n][i], 0.1)
                )
                for i, masked in enumerate(mask[n].flatten())
                if masked
            ]
            patch_terms.append(sum(own, torch.zeros(())) / max(1, len(own)))
    return Slow(torch.stack(cls_terms).mean() + torch.stack(patch_terms).mean())
