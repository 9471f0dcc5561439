"""One job from request to result."""
