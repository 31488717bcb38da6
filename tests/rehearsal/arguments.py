"""Which changes of the host script may stay green, and why; and which ones the quick part tries."""

OURS = "no backslash can be in it: names, health paths, digests, numbers and base64 have none"
SOONER = "it asks again at once, not after a second, and hears the same"
LATER = "a second more of patience"
EXCEPTIONS: dict[str, str] = {
    "IFS='|' read [-r => ] life facts < <(docker i": OURS,
    "read [-r => ] address health expected": OURS,
    "read [-r => ] verb stack service dige": OURS,
    "while read [-r => ] record; do": OURS,
    "k || -z $key ]] || read [-r => ] -t 10 sent || true # a": OURS,
    'cd "$root/$1" && read [-r => ] VERB SERVICE IMAGE <.ho': OURS,
    'read [-r => ] old last _ <<<"$(served': OURS,
    "while read [-r => ] each kind; do": OURS,
    "[sleep 1 => :]": SOONER,
    "sleep [1 => 0]": SOONER,
    "[sleep 1 => :] (2)": SOONER,
    "sleep [1 => 0] (2)": SOONER,
    'grate$" | grep -q .; do [sleep 1 => :]; done # a killed deploy': SOONER,
    '" | grep -q .; do sleep [1 => 0]; done # a killed deploy': SOONER,
    'running "* && $SECONDS [-lt => -le] $until ]] || die 1 "$1': LATER,
    "*unhealthy && $SECONDS [-lt => -le] $until ]] || { watched=": LATER,
    "e failed with exit code [${PIPESTATUS[0]} => ${PIPESTATUS}]: no container was chang": (
        "bash takes the first by itself"
    ),
    '[[ "$kind $state" =~ [^(once exited 0 |.yes. running 0 (healthy)?)$'
    " => (once exited 0 |.yes. running 0 (healthy)?)$] ]]; do": "nothing stands before the kind",
    'docker rm [-fv => -v] "$next-migrate" >/dev/n': "what runs was waited for; it can only be there and not run",
    "set [-euo => -eo] pipefail; umask 077; fi": "it reads nothing that is not set: -u is for whoever changes it",
    'ess%%,*}$health" | grep [-qx => -q] "${expected:-200}"; }': "both are three digits",
    '"$verb" = rollback ] || [IFS= => ] read -rs -t 10 token ||': "docker login cuts off the blanks at its ends too",
    'tail -n +1 [-s 0.2 => ] -f --pid=$$ "$log" & #': "the same words, the last of them up to a second later",
    '5), run the job again: [${said-} => ${said}]"': "the check of the env files has set it",
    'compose -f $file config [2>/dev/null => ]) || die 69 "$PWD: docke': (
        "an env file that makes it say a secret has made `config --services`, above, say it: unheard, and refused"
    ),
    "deploy && $sequence -lt [${last:-0} => ${last}] ]]; then": "bash counts nothing as 0 there",
    'm -rf "$login" && mkdir [-m 700 => ] "$login" && said=$(dock': "umask 077 says the same",
    'n" pull -q "$new" && rm [-rf => -r] "$login"; } || die 65 "': "it is there, and its owner removes it",
    "if [[ -d hooks ] => :]; then": "without hooks there is nothing to run, and the note goes again",
    'compose up -d --no-deps [--pull never => ] "$service"; serves "$se': "it was pulled, by its digest",
    't}}\' "${new%@*}" | grep [-vxFf => -vFf] <(for each in ../*/.dep': "of one repository, each with a whole digest",
    't}}\' "${new%@*}" | grep [-vxFf => -vxf] <(for each in ../*/.dep': "of one repository, each with a whole digest",
    '[[ [$life == "$first" && $life == *" running "* => $life == *" running "*] && $SECONDS -lt $until': (
        "what was started again is red anyhow, as what did not stay up: only later"
    ),
}
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
