"""All text to and from a model: templates of questions and answers, and how each model family writes coordinates."""
