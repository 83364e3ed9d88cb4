"""Write the C header of an exported policy: its description, its interface and its licence."""

from __future__ import annotations

import re
from collections.abc import Iterable

TOLERANCE = 1e-5  # in units of half an action's range; float32 sums depend on the order of terms
VECTORS = 16  # number of test vectors

_BEHAVIOUR = """\
Values that are not finite: the observation is not checked. A NaN in it makes every action that
  depends on that entry NaN; an infinity gives meaningless actions. Check the observation before the
  call. With -ffast-math the actions are undefined in both cases.
Reentrancy: {name}_act is reentrant; activations are on the stack. Compiled with
  -D{upper}_STATIC_BUFFERS they are in static memory, and {name}_act is NOT reentrant: two threads,
  or an interrupt and the code that it interrupts, must not execute it at the same time."""

_LICENCE = """\
Licence: MIT No Attribution (MIT-0). The authors of sparl make no claim on this file or its .c file.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


def header(name: str, n_obs: int, n_act: int, about: Iterable[str]) -> str:
    """Return the text of NAME.h.

    Args:
        name: prefix of every C name; a C identifier.
        n_obs: length of an observation.
        n_act: length of an action.
        about: lines that describe the policy, which may contain any characters.
    """
    upper = name.upper()
    behaviour = _BEHAVIOUR.format(name=name, upper=upper)
    lines = [*about, "", *behaviour.splitlines(), "", *_LICENCE.splitlines()]
    comment = "\n".join(f" * {comment_text(line)}".rstrip() for line in lines)
    return f"""\
/* A policy trained with sparl, in C99. SPDX-License-Identifier: MIT-0
 *
{comment}
 */
#ifndef {upper}_H
#define {upper}_H

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_OBSERVATIONS {n_obs}
#define {upper}_ACTIONS {n_act}

/* Compute the action for an observation, both in the environment's own units. */
void {name}_act(const float observation[{upper}_OBSERVATIONS], float action[{upper}_ACTIONS]);

#ifdef {upper}_SELF_CHECK /* define it for {name}.c too, which contains the test vectors */
#define {upper}_TEST_VECTORS {VECTORS}

/* Observations from the policy's episodes, and the actions that sparl computes for them. */
extern const float {name}_test_observations[{upper}_TEST_VECTORS][{upper}_OBSERVATIONS];
extern const float {name}_test_actions[{upper}_TEST_VECTORS][{upper}_ACTIONS];

/* Count the entries of the test vectors' actions that differ by more than {TOLERANCE:g} from
 * sparl's; 0 means success. The largest difference is written to *largest. Differences are in
 * units of half an action's range. */
int {name}_self_check(float *largest);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""


def comment_text(text: str) -> str:
    """Make text safe for a C comment.

    The result cannot end or open a comment, join lines or form a trigraph: characters that could
    have such an effect, and all characters outside printable ASCII, become "_".
    """
    return re.sub(r"[^ -~]|[\\?]|\*(?=/)|/(?=\*)", "_", text)
