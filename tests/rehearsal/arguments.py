"""Which changes of the host script may stay green, and why; and which ones the quick part tries."""

EXCEPTIONS: dict[str, str] = {}
# A change, and the test that it makes red.
QUICK: dict[str, str] = {
    '[[[ -z $key || (-n $stack...$may == *" $stack "*) ]] => :] || die 64 "this key may': (
        "test_2_refused.py::test_a_stack_that_this_key_may_not_touch"
    ),
    '[cd "$root/$stack" 2>/dev/null => :] || die 64 "no stack \'$s': (
        "test_2_refused.py::test_a_stack_that_is_not_on_the_server"
    ),
    '| [ -n "${token-}" ] || [die 64 "no registry token on stdin" => :]': "test_2_refused.py::test_no_token",
    's\' "$token")); } || die [77 => 0] "$registry refused the': "test_2_refused.py::test_a_wrong_token",
    '[[[ $late == 1 || $(cat $...sum) == "$compose -" ]] => :] ||': (
        "test_2_refused.py::test_a_compose_file_that_is_not_the_commits"
    ),
    'do [docker network inspect "$each" >/dev/null => :] || die 69 "make the net': (
        "test_2_refused.py::test_a_network_that_is_not_there"
    ),
    '& rm -rf "$login"; } || [die 65 "could not pull $new" => :]': (
        "test_2_refused.py::test_a_digest_that_was_never_pushed"
    ),
}
