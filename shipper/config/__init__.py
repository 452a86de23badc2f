"""From YAML to a checked configuration, and back.

model.py collects the components' models; shapes.py reads their annotations once; source.py, scalars.py and loader.py
turn a file into them; checks.py looks across components. show.py, schema.py and reference.py go the other way, from the
same shapes.
What a single component demands of its own keys stands in its model (`flaws`), not here.
"""
