"""Official SDKs as programs that ask a deployment, with the tries that each makes by itself."""
