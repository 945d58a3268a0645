"""The HTTP edge: FastAPI over the operations, one file per resource."""
