"""What changes, in the words of the domain: two sets of files are read by the same eyes, and compared.

files → reading → workflows, stacks → roles → changes → telling; nothing here knows the spec.
"""
