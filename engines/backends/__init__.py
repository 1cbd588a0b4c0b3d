"""One file a library that runs networks; each is the only place where its library is imported."""
