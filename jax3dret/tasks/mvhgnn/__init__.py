"""MV-HGNN: 3D shapes found by a drawing, of classes seen in training and of others.

"Multi-View Hierarchical Graph Neural Network for Sketch-Based 3D Shape Retrieval", arXiv
2604.18019. No code was published with it; where the paper is silent, the choice and its
alternatives stand at the setting. What makes it up, beside the files of this folder:

    experiment.py       from a config to the stages that it trains
    from_config.py      its networks, losses, prototypes and optimizer rules
    stages.py           what trains in which stage, on which terms (section 3.5, tables 4, 7)
    networks.py         the networks as a Task: losses and embeddings
    centring.py         the mean of each side, taken off after training
    training_data.py    what the two sides read in training
    prototypes.py       what stands for a class: its name in CLIP's text space, or less
    published.py        what the paper's tables say

    geometry/cameras.py, geometry/views.py, data/views.py   the views of a shape, rendered once
    tasks/view_cnn.py, data/features.py     what the frozen CNN says of every view, computed once
    models/mvhgnn.py, models/view_*.py      the graph encoder, its ablations (section 3.2, tables 3, 6)
    models/sketch_tower.py                  the sketch encoder: CLIP with prompts, or less (table 5)
    losses/alignment.py, am_softmax.py, quadruplet.py       equations 10, 11-12 and 14 (table 4)
    data/sketches.py, data/quadruplets.py   drawings, and what joins an anchor in a batch
    metrics/shrec.py, evaluators/shrec.py   the SHREC tracks' metrics
    data_pipelines/shrec13, shrec14, quickdraw              the data sets
    configs/mvhgnn_shrec13.py, configs/mvhgnn_shrec14.py    the experiments
    configs/tables_mvhgnn.py                the rows of all tables, as one command
"""
