"""What methods do to images on the device beside attacking them: texture-debiased augmentation, DeepAugment."""
