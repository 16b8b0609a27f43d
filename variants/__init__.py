"""Makes and runs model variants: a variant is a runner plus a chain of frozen recipes, each step one method.

`variants.recipe` says what a variant is, `variants.build` makes it, `variants.open` runs it, `variants.measure`
weighs it against its parent. Importing this package loads no model library.
"""
