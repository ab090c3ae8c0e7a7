"""The environments behind other projects' interfaces."""
