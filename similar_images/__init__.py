"""Find similar photos: photos -> feature vectors -> Faiss index -> search."""
