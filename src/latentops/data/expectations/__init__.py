"""What is expected of rows and of whole tables, as Great Expectations suites built in code.

- `columns`: every column is there, of its type. A broken table stops here.
- `read` and `rows`: what each row must satisfy by itself. A row that doesn't is set aside with the reasons.
- `table`, `missing`, `drift` and `leaks`: limits of the dataset as a whole, each suite on a frame of one line
  that holds figures. A broken limit stops the pipeline.

Rows come a part at a time, and nothing here is larger for there being more of them, but for a hash a row.
Images and sequences are looked at through one summary line a row (missing, least, greatest, steps), never
value by value, and of a text its number of characters; of tables every column is.
"""

import os

# The library reads it while it is imported, so it is set before any module of this package imports it.
os.environ["GX_ANALYTICS_ENABLED"] = "false"
