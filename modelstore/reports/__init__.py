"""What people read: results of a search, the journal of a domain, a comparison of models. Values in, tables out."""
