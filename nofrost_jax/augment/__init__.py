"""What methods do to images on the device besides attacks: texture-debiased augmentation, DeepAugment."""
