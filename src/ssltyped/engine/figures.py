"""The figures that tell a training which goes wrong: what each is, where it is an alarm, what brings it there."""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Optional


class Figure(Enum):
    """What `CollapseWatch` looks at; `ABOUT` says of each what it is."""

    FEATURE_RANK = "feature_rank"
    FEATURE_STD = "feature_std"
    EMBEDDING_RANK = "embedding_rank"
    EMBEDDING_STD = "embedding_std"
    ALIGNMENT = "alignment"
    UNIFORMITY = "uniformity"
    VIEW_AGREEMENT = "view_agreement"
    TEACHER_AGREEMENT = "teacher_agreement"
    TEACHER_LAG = "teacher_lag"
    PROTOTYPE_USE = "prototype_use"
    TARGET_INFORMATION = "target_information"
    CENTRE_OFFSET = "centre_offset"
    QUEUE_REFRESH = "queue_refresh"
    UPDATE_SIZE = "update_size"
    INPUT_OFFSET = "input_offset"
    INPUT_STD = "input_std"
    SAME_VIEWS = "same_views"
    LOSS_EXCESS = "loss_excess"
    LOSS_MARGIN = "loss_margin"


@dataclasses.dataclass(frozen=True)
class About:
    """Of a figure.

    Args:
        what: it is, with its equation and paper
        lowest: it is an alarm below
        highest: and above
        causes: what usually brings it there, and what to do
        looks: it is one after so many looks on end beyond a limit; None: as for most
        share: it is one only if it stays there for this share of the run
    """

    what: str
    lowest: Optional[float] = None
    highest: Optional[float] = None
    causes: str = ""
    looks: Optional[int] = None
    share: float = 0.0


COLLAPSE = (
    "all images get nearly the same output. Usual causes: a target that takes gradient, a teacher that is the student, "
    "no centring or balance, a learning rate that is too high, a last layer that starts from 0"
)

ABOUT: Mapping[Figure, About] = {
    Figure.FEATURE_RANK: About(
        "effective rank of the trunk's features, RankMe: exp(-sum p log p), p the singular values' shares (Garrido et "
        "al. 2023, arXiv 2210.02885, eq. 1)",
        lowest=2.0,
        causes=COLLAPSE,
    ),
    Figure.FEATURE_STD: About(
        "sqrt(D) x mean standard deviation of the trunk's features of length 1 (Chen and He 2021, arXiv 2011.10566, "
        "section 4.1; VICReg, Bardes et al. 2022, arXiv 2105.04906, eq. 1)",
        lowest=0.05,
        causes=COLLAPSE,
    ),
    Figure.EMBEDDING_RANK: About(
        "RankMe, as of the trunk's features, of the head's first output",
        lowest=2.0,
        causes=COLLAPSE,
    ),
    Figure.EMBEDDING_STD: About(
        "sqrt(D) x mean standard deviation of the head's first output, of length 1 (Chen and He 2021, section 4.1)",
        lowest=0.05,
        causes=COLLAPSE,
    ),
    Figure.ALIGNMENT: About(
        "mean squared distance of two views' embeddings of length 1 (Wang and Isola 2020, arXiv 2005.10242, eq. 1)"
    ),
    Figure.UNIFORMITY: About(
        "log of the mean over pairs of images of exp(-2 squared distance) of embeddings of length 1 (Wang and Isola "
        "2020, arXiv 2005.10242, eq. 2)",
        highest=-0.02,
        causes=COLLAPSE,
    ),
    Figure.VIEW_AGREEMENT: About(
        "1 - the squared distance of an image's two views over that of views of other images: 0 by chance",
        lowest=0.05,
        causes="the views of an image are no nearer to each other than to other images. Usual causes: all images are "
        "the same one, views that have nothing in common, a learning rate that is too high",
    ),
    Figure.TEACHER_AGREEMENT: About(
        "1 - the squared distance of teacher's and student's outputs for an image over that for other images"
    ),
    Figure.TEACHER_LAG: About(
        "distance of the teacher's weights from the student's, in steps of the student's last length",
        lowest=1e-3,
        causes="the teacher is the student, and follows nothing. Give it a copy of the weights (copy.deepcopy, "
        "MomentumTeacher) and a momentum above 0",
    ),
    Figure.PROTOTYPE_USE: About(
        "exp of the entropy of the targets' mean over images: prototypes in use (MSN, Assran et al. 2022, arXiv "
        "2204.07141, eq. 2)",
        lowest=2.0,
        causes="all images are taught one prototype. Usual causes: no centring, no balance, a weight of 0 of the "
        "entropy's term, a target's temperature that is too low",
    ),
    Figure.TARGET_INFORMATION: About(
        "H(mean target) - mean H(target), in nats: what a target says of its image (DINO, Caron et al. 2021, arXiv "
        "2104.14294, section 5.3)",
        lowest=0.01,
        causes="targets are the same for every image: nothing is taught. Usual causes: no centring or balance, a "
        "target's temperature that is too high, outputs that have collapsed",
    ),
    Figure.CENTRE_OFFSET: About(
        "distance of the teacher's mean output from the centre, over the deviation of its outputs from their mean "
        "(DINO, Caron et al. 2021, arXiv 2104.14294, eq. 4)",
        highest=1.5,
        causes="what all images have in common is larger than what tells them apart, and the centre does not take it "
        "away: all images will get one prototype. See how update() of the method moves the centre, and its momentum",
    ),
    Figure.QUEUE_REFRESH: About(
        "share of a queue's or bank's rows that were written since the last look, over what it should be",
        lowest=0.5,
        causes="the queue is stale: its keys are not replaced as images pass (He et al. 2020, arXiv 1911.05722, "
        "section 3.2 wants those of recent steps). See what update() of the method enqueues, and where",
    ),
    Figure.UPDATE_SIZE: About(
        "|change of the weights in one step| / |weights|, the largest of the steps looked at since the last look",
        highest=0.2,
        looks=1,
        causes="each step replaces much of what was learned, where a thousandth to a hundredth is usual. Divide the "
        "learning rate by the ratio to 0.01, or lengthen the warmup",
    ),
    Figure.INPUT_OFFSET: About(
        "largest absolute mean of a channel of the normalized images",
        highest=3.0,
        causes="no image has this mean under constants that are right: data.mean and data.std are those of values in "
        "[0, 1], not of [0, 255]",
    ),
    Figure.INPUT_STD: About(
        "standard deviation of the normalized images, which is to be about 1",
        lowest=0.05,
        highest=5.0,
        causes="data.mean and data.std are those of values in [0, 1], not of [0, 255]; or the images are empty",
    ),
    Figure.SAME_VIEWS: About(
        "share of images whose views are equal",
        highest=0.25,
        causes="nothing is learned from equal views. Give data.train.views random transforms, and each view its own "
        "random numbers",
    ),
    Figure.LOSS_EXCESS: About(
        "how far the loss is outside of what its method can give",
        highest=0.0,
        causes="the loss has diverged. Usual causes: a learning rate that is too high, outputs that are not normalized",
    ),
    Figure.LOSS_MARGIN: About(
        "distance of the loss from its value for outputs that are the same for every image",
        lowest=0.01,
        causes="nothing is learned. Usual causes: a last layer that starts from 0, images that are all the same, a "
        "temperature that is too high, a learning rate that is far too low or too high",
        looks=10,
        share=0.2,
    ),
}
