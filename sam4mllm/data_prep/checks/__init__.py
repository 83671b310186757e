"""What a conversion is held against: official counts, soundness, and images that must not be trained on."""
