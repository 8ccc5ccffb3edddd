"""One machine: what it has, what of it is fit for a deployment, and the environment of workers on it."""
