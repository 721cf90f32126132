# Checks that the binary $0 runs on this host and accepts $ARGS as arguments of kcagent run. No agent starts:
# after all other checks of the arguments, kcagent run ends because its file does not exist.
set -f
file=/nonexistent/kcagent/consumers.yaml
[ -x "$0" ] || chmod u+x "$0"
"$0" version || exit
message=$("$0" run $ARGS --web.config.file= --config=$file 2>&1)
case $message in
*"read $file: "*) ;;
*)
	echo "invalid kcagent_args: ${message#kcagent run: }" >&2
	exit 2
	;;
esac
