"""What ranks tell each other; in one process each collective is the identity."""

from ssltyped.distributed.agreement import first_rank_does as first_rank_does
from ssltyped.distributed.collectives import all_reduce as all_reduce
from ssltyped.distributed.collectives import all_reduce_max as all_reduce_max
from ssltyped.distributed.collectives import all_reduce_mean as all_reduce_mean
from ssltyped.distributed.collectives import all_reduce_sum as all_reduce_sum
from ssltyped.distributed.collectives import barrier as barrier
from ssltyped.distributed.collectives import broadcast as broadcast
from ssltyped.distributed.collectives import gather as gather
from ssltyped.distributed.collectives import gather_no_grad as gather_no_grad
from ssltyped.distributed.collectives import gather_uneven as gather_uneven
from ssltyped.distributed.collectives import is_main as is_main
from ssltyped.distributed.collectives import mean_over_ranks as mean_over_ranks
from ssltyped.distributed.collectives import rank as rank
from ssltyped.distributed.collectives import world_size as world_size
