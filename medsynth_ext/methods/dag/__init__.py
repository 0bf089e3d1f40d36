"""Few-shot deep adaptive graph: landmarks of radiographs from few labelled and many unlabelled images.

Zhou et al., DALI workshop at MICCAI 2021, on the graph network of Li et al., ECCV 2020.
"""
