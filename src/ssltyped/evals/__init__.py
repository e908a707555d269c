"""Measures of a trunk, as functions that take it and data; `recipes.evals` runs them from the command line.

    from ssltyped.evals import Features, Samples, Setting, class_retrieval, extract, knn_accuracies, linear_accuracy

    features = extract(trunk, source, Path("features"), transforms=[Resize(size=96), CenterCrop(size=96)],
                       features=["res4", "flatten"])           # to disk; Features(Path("features")) opens them again
    features["flatten"][:10], features.label[:10], features.path[:10]
    knn_accuracies(bank, bank_labels, queries, query_labels, ks=[20], temperature=0.07, num_classes=10)
    linear_accuracy(Samples({"flatten": rows}, labels), held_out, test, num_classes=10, settings=[Setting(0.1, 0.0)])
    class_retrieval(database, database_labels, queries, query_labels, cutoffs=[1, 5])

Rows of features are tensors, or `ChosenRows` of what lies on a disk. Each is collective: on several ranks the docstring
says what each of them gives.
"""

from ssltyped.evals.extraction import Pooling as Pooling
from ssltyped.evals.extraction import extract as extract
from ssltyped.evals.features import ChosenRows as ChosenRows
from ssltyped.evals.features import Features as Features
from ssltyped.evals.features import ShardedArray as ShardedArray
from ssltyped.evals.knn import knn_accuracies as knn_accuracies
from ssltyped.evals.knn import knn_accuracy as knn_accuracy
from ssltyped.evals.knn import knn_predict as knn_predict
from ssltyped.evals.linear import LinearResult as LinearResult
from ssltyped.evals.linear import Normalization as Normalization
from ssltyped.evals.linear import Samples as Samples
from ssltyped.evals.linear import Setting as Setting
from ssltyped.evals.linear import linear_accuracy as linear_accuracy
from ssltyped.evals.same_class import ClassRetrieval as ClassRetrieval
from ssltyped.evals.same_class import class_retrieval as class_retrieval
