"""A verifier without a model, as a judge: are a statement's numbers, dates, names and negations in its evidence?"""
