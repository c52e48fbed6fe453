"""Parse the API's responses into order versions, or elements rejected with the name of the wrong field."""
