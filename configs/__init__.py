"""One experiment a file; `common` holds every field, `rules` their rules, `recipes` the papers'."""
