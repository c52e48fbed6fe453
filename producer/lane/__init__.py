"""A lane: reads the lists of its trekkpliktige, decides on the orders that are at home in it, and commits both."""
