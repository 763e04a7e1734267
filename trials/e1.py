from lib import *
import itertools
def run(ds,enc,side,px,alphas=(None,)):
    for f in ds['folds']:
        tr=[n for n in ds['names'] if n!=f]; pan=panel(ds,tr)
        Y={n:log_counts(section(ds,n),pan) for n in ds['names']}
        C={n:cond(ds,n,enc,side,px) for n in ds['names']}
        comp={n:composition(Y[n]) for n in Y}
        tot={n:np.log2(1+(np.exp2(Y[n].astype(float))-1).sum(1,keepdims=True)) for n in Y}
        out={}
        for tname,T in (('log',Y),('comp',comp),('tot',tot)):
            y=np.concatenate([T[n] for n in tr]).astype(float)
            yrel=np.concatenate([T[n]-T[n].mean(0) for n in tr]).astype(float)
            for view in (0,1):
                x=np.concatenate([C[n]['s'][view] for n in tr])
                for m in ('ridge','kern'):
                    fit=(lambda yy: ridge(x,yy,float(x.shape[1]))) if m=='ridge' else (lambda yy: kern(x,yy,1.,.2))
                    out[tname,view,m]=fit(y)(C[f]['s'][view])
        L=lambda t:np.mean([out[t,v,m] for v in (0,1) for m in ('ridge','kern')],0)
        e,c,t=L('log'),L('comp'),L('tot')
        s=np.maximum(np.exp2(c)-1,0); s=s/s.sum(1,keepdims=True)
        rec=np.log2(1+(np.exp2(t)-1)*s)
        avg=(e+rec)/2
        mt=comp[f]
        print(f"{f} {enc} {side}@{px} C={x.shape[1]}: log PCC {figs(e,Y[f]):.3f} MSE {mse(e,Y[f]):.3f} comp {cfigs(composition(e),mt)[0]:.3f} | comp-target {cfigs(c,mt)[0]:.3f} top50 {cfigs(c,mt)[1]:.3f} | tot r {np.corrcoef(t[:,0],tot[f][:,0])[0,1]:.3f} | rec PCC {figs(rec,Y[f]):.3f} MSE {mse(rec,Y[f]):.3f} comp {cfigs(composition(rec),mt)[0]:.3f} pairs {pairs(rec):.2f}/{pairs(e):.2f}/{pairs(Y[f]):.2f} | avg PCC {figs(avg,Y[f]):.3f} MSE {mse(avg,Y[f]):.3f} comp {cfigs(composition(avg),mt)[0]:.3f}",flush=True)
for a in sys.argv[1:]:
    w,e,s,p=a.split(':'); run(H if w=='h' else M,e,s,int(p))
