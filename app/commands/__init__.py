"""The commands of `stem`, one module a group; `app.cli` registers them.

A command is a function with a typed signature: cyclopts makes options of its parameters and help of
its docstring. Each has a parameter `terminal` and returns an exit code; what it raises, `app.cli`
turns into one line. Heavy imports wait inside, so that help and usage errors are quick.
"""
