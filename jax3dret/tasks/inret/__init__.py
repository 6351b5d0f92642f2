"""INRet: shapes found by their implicit neural representations (INRs), across architectures and
implicit functions.

"INRet: A General Framework for Accurate Retrieval of INRs for Shapes". No code was published with
it; where the paper is silent, the choice and its alternatives stand at the setting. What makes it
up, beside the files of this folder:

    experiment.py           from a config to the encoders that it trains; inr2vec, its baseline, too
    networks.py             encoders and decoder as a Task; the unified latent space (equation 4)
    training_data.py        rows of INRs, made once and kept; points of the query pool
    conversion.py           INRs as clouds and pictures, made once and kept
    pointnext.py, views.py  PointNeXt and View-GCN on those, the paper's baselines (section 7.4)
    distillation.py         queries of an architecture without encoder, distilled first (section 5.3)
    category_chamfer.py     of the query's class, is the nearest shape found? (section 11)
    embedding_classifier.py, hierarchical.py, clouds.py     its classifier, its search, its clouds
    published.py            what the paper's tables say

    models/fields/          architectures of INRs, and their fit to many shapes at once (section 3)
    models/fields/distillation.py   an INR without encoder made one that has (equation 7)
    models/field_encoders/  the encoders, the lattice that a grid is read on, the shape decoder
    losses/fields.py, losses/unified_latent.py      what INRs and encoders are trained with
    geometry/distance.py, field_samples.py          true values of a mesh, and where they are taken
    geometry/isosurface.py  clouds, meshes and pictures of any field
    ops/chamfer.py, metrics/reconstruction.py       how good an INR is
    metrics/hit_rate.py, evaluators/fields.py       how good retrieval is ("mAP@k" of the paper)
    inputs/field.py         what is read of a file of an INR, or of a mesh that is fitted on the way
    data_pipelines/inr_store, pix3d                 the data sets
    models/pointnext.py, data/stitchup.py           PointNeXt-S; E-Stitchup
    configs/inret.py, inr2vec.py, inret_baselines.py            the experiments
    configs/tables_inret.py                         the rows of all tables, as one command
"""
