"""ULIP-2 PointBERT fine-tuning for geometric object retrieval (Computers & Graphics 122, 2024,
103993).

A point encoder is trained with labels (classification), without (VICReg over two augmented views)
or against what frozen image and text towers say (MMCL); view-based networks are its baselines. What
makes up the paper, beside the files of this folder:

    finetune.py     classification and VICReg (section 3.2)
    mmcl.py         multi-modal contrastive fine-tuning (section 3.2)
    viewgcn.py      View-GCN, a view-based baseline (table 2)
    mvtn.py, mvtn_network.py    MVTN, the baseline that learns its cameras (table 2)
    mvtn_pointnet.py            the PointNet that its cameras begin with
    datasets.py     the data sets, a line each
    published.py    what the paper's tables say

    models/pointbert.py, models/pointnet2.py    the encoders (section 3.1; PointNet++ is its baseline)
    models/heads.py                             classification head and VICReg projector
    losses/classification.py, vicreg.py, contrastive.py     the objectives
    data/points.py                              augmentations, the paper's list and the published code's
    core/schedules.py                           warm-up + cosine (paper), one-cycle per epoch (code)
    metrics/retrieval.py                        1-NN accuracy, macro F1, NDCG in both readings
    experiments/tables.py                       tables 1 and 2 as one command
    configs/ulip2_*.py, pointnet2_*.py, viewgcn_classify.py, mvtn_classify.py   the experiments
"""
